universe = vanilla
batch_name = {{name}}
executable = /bin/sh
arguments = {{outpost}}
output = {{log}}
error = {{log}}
request_cpus = {{cpus}}
request_memory = {{memory}}
request_gpus = {{gpus}}
accounting_group = {{account}}
allowed_job_duration = {{time_limit}}
getenv = true
should_transfer_files = no
{{lines}}
queue {{members}}

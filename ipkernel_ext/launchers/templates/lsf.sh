#!/bin/sh
#BSUB -J "{{name}}[{{array}}]"
#BSUB -o {{log}}
#BSUB -n {{cpus}}
#BSUB -R "span[hosts=1]"
#BSUB -q {{queue}}
#BSUB -P {{account}}
#BSUB -W {{time_limit}}
#BSUB -M {{memory}}
#BSUB -gpu "num={{gpus}}"
#BSUB -wa USR1 -wt {{warning}}
{{lines}}
{{source}}
exec {{outpost}}

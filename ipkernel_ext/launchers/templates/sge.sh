#!/bin/sh
#$ -S /bin/sh
#$ -N {{name}}
#$ -j y
#$ -o {{log}}
#$ -t {{array}}
#$ -q {{queue}}
#$ -P {{account}}
#$ -pe smp {{slots}}
#$ -l h_rt={{hard}}
#$ -l s_rt={{soft}}
#$ -l h_vmem={{memory}}
#$ -l gpu={{gpus}}
#$ -V
{{lines}}
{{source}}
exec {{outpost}}

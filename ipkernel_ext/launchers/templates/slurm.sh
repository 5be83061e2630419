#!/bin/sh
#SBATCH --job-name={{name}}
#SBATCH --output={{log}}
#SBATCH --array={{array}}
#SBATCH --ntasks={{tasks}}
#SBATCH --cpus-per-task={{cpus}}
#SBATCH --partition={{queue}}
#SBATCH --account={{account}}
#SBATCH --time={{time_limit}}
#SBATCH --mem={{memory}}
#SBATCH --gres=gpu:{{gpus}}
#SBATCH --gpus-per-task={{gpus_per_task}}
#SBATCH --signal={{signal}}
{{lines}}
{{source}}
exec {{outpost}}

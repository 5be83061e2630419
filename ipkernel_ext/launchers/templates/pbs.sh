#!/bin/sh
#PBS -N {{name}}
#PBS -j oe
#PBS -o {{log}}
#PBS -J {{array}}
#PBS -q {{queue}}
#PBS -A {{account}}
#PBS -l select=1:{{resources}}
#PBS -l walltime={{time_limit}}
#PBS -V
{{lines}}
{{source}}
exec {{outpost}}

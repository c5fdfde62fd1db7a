# Many runs of one sweep: snakemake --config sweep=params/sweeps/pos-shape.yaml [data=PATH] --cores 2
# Killed and started again, it finishes what is missing; on a cluster, with a profile: profiles/slurm/config.yaml.
# What a run may use is in the configuration, too: threads=1 gpus=0 mem_mb=4000 minutes=120. On one machine with GPUs, say which:
# --resources gpu=2 --config gpus=1 devices="0 1" (make sweep does); a cluster hands them out itself.
import re
import shlex

from nerlib.sweep import Sweep

if "sweep" not in config:
    raise ValueError("name the sweep: snakemake --config sweep=params/sweeps/NAME.yaml, or make sweep SWEEP=…")
sweep = Sweep.load(config["sweep"])
# A run takes the first device that no other run has, also of another sweep, and holds its lock until it ends.
devices = shlex.join(str(config.get("devices", "")).split())
turn = (f"until for gpu in {devices}; do exec 9> /tmp/nerlib-$(id -u)-gpu-$gpu && flock -n 9 && break; done; do sleep 2; done; "
        "export CUDA_VISIBLE_DEVICES=$gpu; ") if devices else ""


wildcard_constraints:
    run="|".join(map(re.escape, sweep.runs())),


rule all:
    input:
        f"reports/{sweep.name}/comparison.json" if sweep.comparisons else expand("reports/{run}/run.json", run=sweep.runs()),


# One training. A single thread each, as many at once as there are cores, does more work than all cores on one after the other.
# Its record alone is declared as output: Snakemake removes what a killed job declared, and the rest is what it goes on from.
rule run:
    input:
        sweep.files(),
    output:
        "reports/{run}/run.json",
    params:
        arguments=lambda wildcards: shlex.join(sweep.arguments(wildcards.run, config.get("data", ""))),
    threads: int(config.get("threads", 1))
    resources:
        mem_mb=int(config.get("mem_mb", 4000)),  # the whole Kaggle corpus takes 2,500
        runtime=int(config.get("minutes", 120)),
        gpu=int(config.get("gpus", 0)),
    log:
        "reports/{run}/log.txt",
    shell:
        turn + "OMP_NUM_THREADS={threads} python -m nerlib {params.arguments} > {log} 2>&1"


rule compare:
    input:
        config["sweep"],
        expand("reports/{run}/run.json", run=sweep.runs()),
    output:
        f"reports/{sweep.name}/comparison.json",
    log:
        f"reports/{sweep.name}/log.txt",
    shell:
        "python -m nerlib.sweep {config[sweep]:q} --compare > {log} 2>&1"

"""python -m benchmarks data/ner_dataset.csv.zip [training loading tagging scaling]: measures, prints, writes the results.

All of them take about half an hour on two cores, and mean something only on a machine that does nothing else.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import loading, scaling, tagging, training
from nerlib import plots, runs

BENCHMARKS = {"training": training, "loading": loading, "tagging": tagging, "scaling": scaling}


def main(results: Path = runs.ROOT / "reports" / "results") -> None:
    """Writes benchmarks.json, one benchmark at a time, and the figures to `results`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the Kaggle corpus")
    parser.add_argument("names", nargs="*", help=f"which to run, of {', '.join(BENCHMARKS)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    file = results / "benchmarks.json"
    record = runs.read_json(file) if file.is_file() else {}
    made = runs.provenance()  # now, since the results themselves will change the tree
    for name in arguments.names or BENCHMARKS:
        record[name] = BENCHMARKS[name].run(str(Path(arguments.data).resolve())) | {
            "completed": runs.now(), **made}
        runs.write_json(file, {name: record[name] for name in BENCHMARKS if name in record})
        print(f"\n{name}\n{table(record[name]).to_string()}\n", flush=True)
        if name == "training":
            plots.save(training.figure(record[name]), results / "benchmarks" / "training")
        if name == "scaling":
            plots.save(scaling.figure(record[name]), results / "benchmarks" / "scaling")


def table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a contender: rate, peak memory, and how many times as fast ours is."""
    parts = {"": record} if "contenders" in record else {}
    parts |= {key: value for key, value in record.items() if isinstance(value, dict) and "contenders" in value}
    rows = [{"": f"{part} {row.get('name', name)}".strip(), record.get("unit", part_record.get("unit")): row["median_rate"],
             "seconds": row["median_seconds"], "peak MiB": row["peak_memory_mib"],
             "ours is × as fast": part_record.get("ours_vs", {}).get(name, float("nan"))}
            for part, part_record in parts.items() for name, row in part_record["contenders"].items()]
    return pd.DataFrame(rows).set_index("").round(2)


if __name__ == "__main__":
    main()

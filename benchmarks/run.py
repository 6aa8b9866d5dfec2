"""Run the benchmarks, all or those named: python benchmarks/run.py [NAME …]. Results go to results/."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = [p.stem for p in sorted(HERE.glob("*.py")) if p.stem not in ("run", "results", "duel")]


def main():
    wanted = sys.argv[1:] or NAMES
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = [
        name for name in wanted if subprocess.run([sys.executable, str(HERE / f"{name}.py")]).returncode
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

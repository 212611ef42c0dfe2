"""``python -m miyabi_healing``."""

from miyabi_healing.cli.main import main

if __name__ == "__main__":
    main()

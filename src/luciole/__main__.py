"""`python -m luciole VERB ...`: the command line, where the script `luciole` is not on the path."""

from luciole.cli.main import main

if __name__ == "__main__":
    main()

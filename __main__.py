"""`python -m lmmsae_eval` is `lmmsae-eval`."""

from .cli.main import main

if __name__ == "__main__":
    main()

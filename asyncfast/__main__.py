"""``python -m asyncfast``: run a program, or a prompt, with asyncfast as its event loop."""

from asyncfast._runner import main

if __name__ == "__main__":
    # The last line: from here on this namespace belongs to the program that is run.
    main()

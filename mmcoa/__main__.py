"""`python -m mmcoa`: the command line, as launchers of several processes start it."""

from mmcoa.cli.main import main

if __name__ == "__main__":
    main()

"""Where vectors live. One file per store; `base.py` is the port."""

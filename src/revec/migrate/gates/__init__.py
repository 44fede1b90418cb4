"""What has to hold before users see an index. One file per gate; `base.py` is the port."""

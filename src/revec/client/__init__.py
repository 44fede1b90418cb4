"""Door: the library. One client, in this process or over HTTP; `revec.connect` opens it."""

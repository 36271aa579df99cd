"""AdamW over arrays that the host owns: libadamw for Python."""

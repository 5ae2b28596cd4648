"""Files of logged models, as fsspec's users open files."""

"""Files and names of files: images, masks, lists, tables."""

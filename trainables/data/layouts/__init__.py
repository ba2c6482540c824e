"""What a folder of images and masks is: found out where that can be known, asked where it cannot."""

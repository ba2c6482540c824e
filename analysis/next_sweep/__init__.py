"""What a next sweep should try: each proposal rests on what val showed, and below its threshold there is none."""

"""What a compilation found out: as typed data (`model`), as tables for people (`tables`) and as a page (`html`)."""

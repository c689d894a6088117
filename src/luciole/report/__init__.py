"""What a compilation found out, as typed data (`model`), as tables for people (`tables`, `memory_map`) and as a page (`html`)."""

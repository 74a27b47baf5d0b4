"""Side-by-side measurements of karush and its peers."""

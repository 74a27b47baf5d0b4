"""Drop-ins: code written for another library runs with one changed import. Nothing here is imported by karush itself."""

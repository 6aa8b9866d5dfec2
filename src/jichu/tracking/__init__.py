"""What run folders say of themselves: listed, compared, tagged, cleaned, and shown on a board."""

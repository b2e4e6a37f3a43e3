"""Fonio beside its peers. To be read in this order: layers (what is measured), ours and peers (who is measured), blocks (how),
machine (on what), results (what the figures say), report (the table and the charts)."""

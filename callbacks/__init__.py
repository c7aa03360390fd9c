"""What watches a run and belongs to no one method."""

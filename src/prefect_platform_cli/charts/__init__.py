"""Models of the charts' values, one per chart, from which the values files are generated."""

"""The flow linter: rules over the syntax trees of flows, which are never imported or run."""

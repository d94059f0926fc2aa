"""From what is declared and what is there to a plan, and from the plan to Prefect."""

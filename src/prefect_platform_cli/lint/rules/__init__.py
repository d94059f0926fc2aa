"""The rules, a module for each kind of fault; `catalogue` lists them."""

# The rules for the language itself; those for AWS are a plugin of their own.
plugin "terraform" {
  enabled = true
  preset  = "all"
}

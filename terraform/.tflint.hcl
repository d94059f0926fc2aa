# The rules for the Terraform language. The rules for AWS are in another plugin, which is not used.
plugin "terraform" {
  enabled = true
  preset  = "all"
}

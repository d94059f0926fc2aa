# The periods in an environment's retention.yaml, converted to days, which is the unit of object
# stores. The charts and the platform's configuration read the same file.

locals {
  written = yamldecode(file(var.file)).retention
  periods = {
    "flowRuns"        = try(local.written.flowRuns, "missing")
    "unfinishedRuns"  = try(local.written.unfinishedRuns, "missing")
    "objects.results" = try(local.written.objects.results, "missing")
    "backups"         = try(local.written.backups, "missing")
  }
  in_days = { m = 1 / 1440, h = 1 / 24, d = 1 }
  days = {
    for key, period in local.periods :
    key => try(tonumber(regex("^[0-9]+", period)) * local.in_days[regex("[mhd]$", period)], 0)
  }
}

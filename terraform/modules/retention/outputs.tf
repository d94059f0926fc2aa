output "objects" {
  description = "How many days objects are kept, by purpose. days is null if they are kept forever. version_days applies to versions that were replaced or deleted, and is null if the bucket has no versions."
  value = {
    # A lost result is computed again instead of restored, so results have no versions.
    results = { days = local.days["objects.results"], version_days = null }
    # Artifacts are data: they do not expire, and a deleted one can be restored for as long as a
    # backup is kept.
    artifacts = { days = null, version_days = local.days["backups"] }
    backups   = { days = local.days["backups"], version_days = local.days["backups"] }
  }

  precondition {
    condition = alltrue([
      for key in ["flowRuns", "unfinishedRuns"] :
      can(regex("^[1-9][0-9]*[mhd]$", local.periods[key]))
    ])
    error_message = "In ${var.file} retention.flowRuns is ${local.periods["flowRuns"]} and retention.unfinishedRuns is ${local.periods["unfinishedRuns"]}: set periods such as 90d, 24h or 30m."
  }

  precondition {
    condition = alltrue([
      for key in ["objects.results", "backups"] : can(regex("^[1-9][0-9]*d$", local.periods[key]))
    ])
    error_message = "In ${var.file} retention.objects.results is ${local.periods["objects.results"]} and retention.backups is ${local.periods["backups"]}: set whole days such as 90d, because object stores count in days."
  }

  precondition {
    condition     = local.days["objects.results"] >= max(local.days["flowRuns"], local.days["unfinishedRuns"])
    error_message = "In ${var.file} retention.objects.results is ${local.periods["objects.results"]}, but the server keeps runs for ${local.periods["flowRuns"]} and unfinished runs for ${local.periods["unfinishedRuns"]}, so their states would refer to results that no longer exist: set at least the longer of the two."
  }
}

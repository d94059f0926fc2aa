output "objects" {
  description = "Days that objects are kept, by purpose: in days, null for ever; and as a version that was replaced or deleted in version_days, null where there are no versions."
  value = {
    # A cached result is written again rather than restored: it has no versions.
    results = { days = local.days["objects.results"], version_days = null }
    # Artifacts are data: they go when somebody deletes them, and come back as long as a backup does.
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
    error_message = "In ${var.file} retention.objects.results is ${local.periods["objects.results"]} and retention.backups is ${local.periods["backups"]}: set whole days such as 90d, which object stores count in."
  }

  precondition {
    condition     = local.days["objects.results"] >= max(local.days["flowRuns"], local.days["unfinishedRuns"])
    error_message = "In ${var.file} retention.objects.results is ${local.periods["objects.results"]}, but the server keeps runs for ${local.periods["flowRuns"]} and unfinished ones for ${local.periods["unfinishedRuns"]}: their states would name results that are gone; set at least the longer of the two."
  }
}

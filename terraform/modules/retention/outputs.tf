output "days" {
  description = "Whole days that objects are kept, by purpose."
  value = {
    results = local.days["objects.results"]
    backups = local.days["backups"]
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

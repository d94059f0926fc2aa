{{/*
The pools that are served, as a YAML list. Each has the keys `worker`, `jobs` and
`networkPolicies`, in which the pool's own values lie over those of all, and what it is called:
`name` of the pool, `fullname` of its objects beside the worker, `namespace` of its job pods,
`roleName` of the worker's rights there, where releases of other namespaces may have one too.
*/}}
{{- define "prefect-worker.pools" -}}
{{- $pools := list -}}
{{- $defaults := pick .Values "worker" "jobs" "networkPolicies" -}}
{{- range $name, $own := .Values.pools -}}
{{- $pool := include "prefect-worker.overlay" (dict "base" $defaults "over" $own) | fromYaml -}}
{{- $fullname := printf "%s-%s" (include "prefect-library.fullname" $) $name -}}
{{- $_ := set $pool "name" $name -}}
{{- $_ := set $pool "fullname" (include "prefect-worker.bounded" $fullname) -}}
{{- $_ := set $pool "namespace" ($pool.jobs.namespace | default (printf "flows-%s" $name)) -}}
{{- $role := printf "%s-%s" $.Release.Namespace $fullname -}}
{{- $_ := set $pool "roleName" (include "prefect-worker.bounded" $role) -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/*
The map `base` with the map `over` laid over it, as YAML, in the way of Helm's own values: maps
merge, null removes, all else replaces.
*/}}
{{- define "prefect-worker.overlay" -}}
{{- $result := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- $below := get $result $key -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $result $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $below) -}}
{{- $merged := include "prefect-worker.overlay" (dict "base" $below "over" $value) -}}
{{- $_ := set $result $key ($merged | fromYaml) -}}
{{- else -}}
{{- $_ := set $result $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $result -}}
{{- end -}}

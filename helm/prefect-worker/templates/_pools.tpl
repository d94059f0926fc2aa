{{/*
The pools that this release serves, as a YAML list. Each has the keys `worker`, `jobs` and
`networkPolicies`, in which the pool's own values are merged into the values for all pools, and these
names: `name` (the pool), `fullname` (its objects in the worker's namespace), `namespace` (of its job
pods) and `roleName` (the worker's Role there, whose name must not collide with those of other releases).
Almost every template needs the list, and merging is slow, so the root context keeps the rendered text.
*/}}
{{- define "prefect-worker.pools" -}}
{{- if not (hasKey $ "renderedPools") -}}
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
{{- $_ := set $ "renderedPools" (toYaml $pools) -}}
{{- end -}}
{{- get $ "renderedPools" -}}
{{- end -}}

{{/*
Merges the map `over` into the map `base`, as Helm merges values: maps are merged, null removes a key,
and everything else replaces the key. Renders YAML.
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

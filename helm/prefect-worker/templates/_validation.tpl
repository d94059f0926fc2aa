{{- /*
Refuses the keys below job_configuration that jobs.template must not set, because they isolate runs,
restrict their pods and keep one pod for each run. It must not replace a map either, because the map
may contain such a key. Takes "over" (the template), "base" (what it is merged into) and "path".
*/ -}}
{{- define "prefect-worker.validateTemplate" -}}
{{- $fixed := list "automountServiceAccountToken" "backoffLimit" "backoffLimitPerIndex" "cluster_config" "completionMode" "completions" "containers" "ephemeralContainers" "hostIPC" "hostNetwork" "hostPID" "hostUsers" "initContainers" "managedBy" "namespace" "nodeName" "parallelism" "podFailurePolicy" "podReplacementPolicy" "restartPolicy" "securityContext" "serviceAccount" "serviceAccountName" "shareProcessNamespace" "suspend" "volumes" -}}
{{- range $key, $value := .over -}}
{{- $path := printf "%s.%s" $.path $key -}}
{{- $below := get $.base $key -}}
{{- if has $key $fixed -}}
{{- fail (printf "%s is fixed, because it isolates runs and restricts their pods: remove it from jobs.template, and see the other values of jobs" $path) -}}
{{- end -}}
{{- if kindIs "map" $below -}}
{{- if not (kindIs "map" $value) -}}
{{- fail (printf "%s would be replaced as a whole, including settings that isolate runs and restrict their pods: give only the keys that differ" $path) -}}
{{- end -}}
{{- include "prefect-worker.validateTemplate" (dict "over" $value "base" $below "path" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
Refuses combinations of values that would install and then fail or do harm. Each message says what
is wrong, why, and what to set. The schema checks types and unknown keys.
*/ -}}
{{- define "prefect-worker.validation" -}}
{{- include "prefect-library.validateImage" (dict "root" $ "key" "image" "image" .Values.image) -}}

{{- if not (or .Values.auth.runIdentity.enabled .Values.auth.secret.name) -}}
{{- fail "auth.secret.name is empty, and auth.runIdentity.enabled is false: prefect-server requires authentication; name the Secret that holds \"user:password\"" -}}
{{- end -}}

{{- if and .Values.api.certificateAuthority.name (hasPrefix "http://" .Values.api.url) -}}
{{- fail (printf "api.certificateAuthority.name is set, but api.url is %s, which uses no TLS: set api.url=https://..., or clear api.certificateAuthority.name" .Values.api.url) -}}
{{- end -}}

{{- if not .Values.pools -}}
{{- fail "pools is empty: no worker would be installed; name a pool, for example --set-json 'pools.default={}'" -}}
{{- end -}}

{{- $retention := .Values.retention -}}
{{- if gt (include "prefect-library.seconds" $retention.jobs.succeeded | int64) (include "prefect-library.seconds" $retention.jobs.failed | int64) -}}
{{- fail (printf "retention.jobs.succeeded is %s, but every finished Job is deleted after %s: raise retention.jobs.failed" $retention.jobs.succeeded $retention.jobs.failed) -}}
{{- end -}}

{{- $owners := dict -}}
{{- range $pool := include "prefect-worker.pools" . | fromYamlArray -}}
{{- $own := dig "jobs" dict (get $.Values.pools $pool.name | default dict) | default dict -}}
{{- $key := ternary (printf "pools.%s.jobs.image" $pool.name) "jobs.image" (hasKey $own "image") -}}
{{- include "prefect-library.validateImage" (dict "root" $ "key" $key "image" $pool.jobs.image) -}}
{{- if and $.Values.jobs.image.digest $own.image (not (hasKey $own.image "digest")) (or (hasKey $own.image "tag") (hasKey $own.image "repository")) -}}
{{- fail (printf "pools.%s.jobs.image names an image, but jobs.image.digest would select another one: set pools.%s.jobs.image.digest, to '' if its tag shall count" $pool.name $pool.name) -}}
{{- end -}}
{{- if and (dig "image" "tag" "" $own) (not $pool.jobs.image.digest) (include "prefect-library.imageDigest" (dict "root" $ "image" $pool.jobs.image)) -}}
{{- fail (printf "pools.%s.jobs.image.tag names an image, but global.imageDigests would select another one: set pools.%s.jobs.image.digest" $pool.name $pool.name) -}}
{{- end -}}

{{- if eq $pool.namespace $.Release.Namespace -}}
{{- fail (printf "jobs.namespace is the release's own, %s: flows would run in the same namespace as the worker's token; give the job pods of the pool %s a namespace of their own" $pool.namespace $pool.name) -}}
{{- end -}}
{{- with get $owners $pool.namespace -}}
{{- fail (printf "the pools %s and %s share the namespace %s for their job pods: its quota, limits and NetworkPolicy would apply to both; set pools.%s.jobs.namespace" . $pool.name $pool.namespace $pool.name) -}}
{{- end -}}
{{- $_ := set $owners $pool.namespace $pool.name -}}

{{- $deadline := int64 $pool.jobs.activeDeadlineSeconds -}}
{{- if le (include "prefect-library.seconds" $retention.unfinishedRuns | int64) $deadline -}}
{{- fail (printf "retention.unfinishedRuns is %s, but a run of the pool %s may take %d s without an event or a log line: raise it, or lower jobs.activeDeadlineSeconds" $retention.unfinishedRuns $pool.name $deadline) -}}
{{- end -}}
{{- if lt (include "prefect-library.seconds" $retention.objects.results | int64) (add (include "prefect-library.seconds" $retention.flowRuns | int64) $deadline) -}}
{{- fail (printf "retention.objects.results is %s, counted from the time that a result is written, but a run of the pool %s may take %d s (jobs.activeDeadlineSeconds) and is then kept for %s (retention.flowRuns): its states would refer to deleted results; set at least the sum of the two" $retention.objects.results $pool.name $deadline $retention.flowRuns) -}}
{{- end -}}

{{- range $pool.worker.extraEnv -}}
{{- if and .valueFrom (hasPrefix "PREFECT_" .name) (not (hasPrefix "PREFECT_INTEGRATIONS_" .name)) -}}
{{- fail (printf "worker.extraEnv sets %s for the pool %s from a reference, but the worker copies Prefect's settings into each Job in plain text: set it in jobs.env for the job pods" .name $pool.name) -}}
{{- end -}}
{{- if has .name (list "PREFECT_API_URL" "PREFECT_API_AUTH_STRING" "PREFECT_API_KEY" "PREFECT_API_SSL_CERT_FILE") -}}
{{- fail (printf "worker.extraEnv sets %s for the pool %s: use api.url, api.certificateAuthority and auth" .name $pool.name) -}}
{{- end -}}
{{- end -}}

{{- range $pool.jobs.env -}}
{{- if and (not (hasKey . "value")) (not (hasKey . "valueFrom")) -}}
{{- fail (printf "jobs.env of the pool %s has %s with neither value nor valueFrom: set one of them" $pool.name .name) -}}
{{- end -}}
{{- end -}}

{{- $template := include "prefect-worker.baseJobTemplate" (dict "root" $ "pool" $pool) | fromYaml -}}
{{- with $template.Error -}}
{{- fail (printf "the base job template of the pool %s is not YAML: %s" $pool.name .) -}}
{{- end -}}
{{- $unknown := keys (omit $pool.jobs.template "job_configuration" "variables") | sortAlpha -}}
{{- with $unknown -}}
{{- fail (printf "jobs.template has %s, but the only keys of a base job template are job_configuration and variables" (join ", " .)) -}}
{{- end -}}
{{- $variables := (include "prefect-worker.overlay" (dict "base" $template "over" $pool.jobs.template) | fromYaml).variables -}}
{{- if not (kindIs "map" $variables) -}}
{{- fail "jobs.template removes variables, which every base job template needs: give only the keys that differ" -}}
{{- end -}}
{{- $environment := keys (dig "properties" "env" "default" dict $variables) -}}
{{- range $pool.jobs.env -}}
{{- $environment = append $environment .name -}}
{{- end -}}
{{- range $name := list "PREFECT_API_URL" "PREFECT_API_AUTH_STRING" "PREFECT_API_KEY" "PREFECT_API_SSL_CERT_FILE" "PREFECT_HOME" -}}
{{- if has $name $environment -}}
{{- fail (printf "jobs.env or jobs.template sets %s for the pool %s, which the worker sets itself: use api.url, api.certificateAuthority and auth" $name $pool.name) -}}
{{- end -}}
{{- end -}}
{{- $unverified := "PREFECT_API_TLS_INSECURE_SKIP_VERIFY" -}}
{{- range $pool.worker.extraEnv -}}
{{- $environment = append $environment .name -}}
{{- end -}}
{{- if has $unverified $environment -}}
{{- fail (printf "worker.extraEnv, jobs.env or jobs.template sets %s for the pool %s, with which anyone in between could read the auth string: remove it, and set api.certificateAuthority" $unverified $pool.name) -}}
{{- end -}}
{{- range $environment -}}
{{- if hasPrefix "PREFECT_PLUGINS_" . -}}
{{- fail (printf "worker.extraEnv, jobs.env or jobs.template sets %s for the pool %s: without the chart's plugins, runs would be refused by the API or lose results; remove it" . $pool.name) -}}
{{- end -}}
{{- end -}}
{{- $every := toString (int64 $pool.jobs.heartbeatSeconds) -}}
{{- $set := dig "properties" "env" "default" "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" "" $variables | toString -}}
{{- range concat $pool.worker.extraEnv $pool.jobs.env -}}
{{- if has .name (list "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" "PREFECT_RUNNER_HEARTBEAT_FREQUENCY") -}}
{{- $set = .name -}}
{{- end -}}
{{- end -}}
{{- if ne $set $every -}}
{{- fail (printf "worker.extraEnv, jobs.env or jobs.template sets the heartbeat interval of the pool %s, and reaper.silenceSeconds would not take it into account: use jobs.heartbeatSeconds" $pool.name) -}}
{{- end -}}
{{- if and $.Values.reaper.enabled (lt (int64 $.Values.reaper.silenceSeconds) (mul 3 (int64 $every))) -}}
{{- fail (printf "reaper.silenceSeconds is too short for the pool %s, whose runs send a heartbeat every %s s: a lost heartbeat would make a run silent; set it to %d or more, or lower jobs.heartbeatSeconds" $pool.name $every (mul 3 (int64 $every))) -}}
{{- end -}}
{{- $configuration := pick $template "job_configuration" -}}
{{- include "prefect-worker.validateTemplate" (dict "over" (pick $pool.jobs.template "job_configuration") "base" $configuration "path" "jobs.template") -}}
{{- end -}}
{{- end -}}

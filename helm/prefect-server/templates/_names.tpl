{{- define "prefect-server.database.fullname" -}}
{{- printf "%s-database" (include "prefect-library.fullname" .) -}}
{{- end -}}

{{/* Host name under which clients reach the database. */}}
{{- define "prefect-server.database.host" -}}
{{- $name := include "prefect-server.database.fullname" . -}}
{{- $hosts := dict "embedded" $name "cloudnative-pg" (printf "%s-rw" $name) "external" .Values.database.external.host -}}
{{- get $hosts .Values.database.mode -}}
{{- end -}}

{{- define "prefect-server.redis.fullname" -}}
{{- printf "%s-redis" (include "prefect-library.fullname" .) -}}
{{- end -}}

{{- define "prefect-server.hasEmbeddedRedis" -}}
{{- if and (eq .Values.mode "ha") (eq .Values.redis.mode "embedded") -}}true{{- end -}}
{{- end -}}

{{/* The path of the public URL, below which everything is served: empty, or /PATH. */}}
{{- define "prefect-server.pathPrefix" -}}
{{- (urlParse .Values.publicUrl).path -}}
{{- end -}}

{{/* The host that people type, without a port. */}}
{{- define "prefect-server.publicHost" -}}
{{- (urlParse .Values.publicUrl).hostname -}}
{{- end -}}

{{/* What opens the API to the outside: the keys of the values, as a sentence names them. */}}
{{- define "prefect-server.waysIn" -}}
{{- $ways := list -}}
{{- if .Values.ingress.enabled }}{{ $ways = append $ways "ingress.enabled is true" }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $ways = append $ways "httpRoute.enabled is true" }}{{ end -}}
{{- if ne .Values.service.type "ClusterIP" }}{{ $ways = append $ways (printf "service.type is %s" .Values.service.type) }}{{ end -}}
{{- join " and " $ways -}}
{{- end -}}

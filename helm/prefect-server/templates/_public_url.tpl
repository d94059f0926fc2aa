{{/* The path of publicUrl, which prefixes everything that is served: empty, or /PATH. */}}
{{- define "prefect-server.pathPrefix" -}}
{{- (urlParse .Values.publicUrl).path -}}
{{- end -}}

{{/* The host of publicUrl, without a port. */}}
{{- define "prefect-server.publicHost" -}}
{{- (urlParse .Values.publicUrl).hostname -}}
{{- end -}}

{{/* The origin of publicUrl: its scheme, host and port. Empty without a publicUrl. */}}
{{- define "prefect-server.publicOrigin" -}}
{{- with .Values.publicUrl -}}
{{- $url := urlParse . -}}
{{- printf "%s://%s" $url.scheme $url.host -}}
{{- end -}}
{{- end -}}

{{/* The values that expose the API outside the cluster, as the beginning of a guard's message. */}}
{{- define "prefect-server.waysIn" -}}
{{- $ways := list -}}
{{- if .Values.ingress.enabled }}{{ $ways = append $ways "ingress.enabled is true" }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $ways = append $ways "httpRoute.enabled is true" }}{{ end -}}
{{- if ne .Values.service.type "ClusterIP" }}{{ $ways = append $ways (printf "service.type is %s" .Values.service.type) }}{{ end -}}
{{- join " and " $ways -}}
{{- end -}}

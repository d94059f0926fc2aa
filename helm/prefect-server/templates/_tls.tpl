{{/* Scheme of everything that the API serves, which is also the name of its port: http or https. */}}
{{- define "prefect-server.scheme" -}}
{{- ternary "https" "http" .Values.api.tls.enabled -}}
{{- end -}}

{{/* Name of the Secret with the API's certificate: yours, or the one that cert-manager writes. */}}
{{- define "prefect-server.tlsSecret" -}}
{{- .Values.api.tls.secret.name | default (printf "%s-tls" (include "prefect-library.fullname" .)) -}}
{{- end -}}

{{/* A period such as 90d, 24h or 30m, converted to seconds. */}}
{{- define "prefect-library.seconds" -}}
{{- $unit := regexFind "[mhd]$" . -}}
{{- mul (trimSuffix $unit . | int64) (get (dict "m" 60 "h" 3600 "d" 86400) $unit) -}}
{{- end -}}

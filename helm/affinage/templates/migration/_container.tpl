{{/* A step of the migration. (list $ NAME COMMAND). */}}
{{- define "affinage.migration.container" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
image: {{ include "affinage.image" (list $root $root.Values.images.gateway) }}
imagePullPolicy: {{ $root.Values.images.gateway.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
command: {{ toJson (index . 2) }}
securityContext:
  {{- include "affinage.containerSecurityContext" $root | nindent 2 }}
env:
  {{- include "affinage.environment.process" (list $root "INFO") | nindent 2 }}
  {{- include "affinage.environment.database" $root | nindent 2 }}
resources:
  {{- include "affinage.resources" $root.Values.migration | nindent 2 }}
volumeMounts:
  {{- include "affinage.volumeMounts" $root | nindent 2 }}
{{- end -}}

{{/*
Rules of the network policies. A process may reach the addresses in its environment and nothing else.
*/}}

{{/* Pods of these components of this release. (list $ COMPONENT...). */}}
{{- define "affinage.peers" -}}
{{- $root := index . 0 -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ $root.Chart.Name }}
      app.kubernetes.io/instance: {{ $root.Release.Name }}
    matchExpressions:
      - key: app.kubernetes.io/component
        operator: In
        values: {{ toJson (rest .) }}
{{- end -}}

{{/* Name resolution. */}}
{{- define "affinage.egress.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A server outside the release. (list $ NAME PORTS): PORTS are those of its address, which the values may replace. */}}
{{- define "affinage.egress.external" -}}
{{- $root := index . 0 -}}
{{- $server := index $root.Values.networkPolicy.external (index . 1) -}}
- ports:
    {{- range (default (index . 2) $server.ports) }}
    - port: {{ int . }}
      protocol: TCP
    {{- end }}
  {{- with $server.cidrs }}
  to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "affinage.egress.database" -}}
{{ include "affinage.egress.external" (list . "database" (list 5432)) }}
{{- end -}}

{{- define "affinage.egress.registry" -}}
{{ include "affinage.egress.external" (list . "registry" (list (include "affinage.port" .Values.registry.url))) }}
{{- end -}}

{{- define "affinage.egress.prefect" -}}
{{ include "affinage.egress.external" (list . "prefect" (list (include "affinage.port" .Values.prefect.apiUrl))) }}
{{- end -}}

{{/* Vectors, files, embedder and generators. */}}
{{- define "affinage.egress.serving" -}}
{{ include "affinage.egress.external" (list . "vectors" (list (include "affinage.port" .Values.vectors.url) .Values.vectors.grpcPort)) }}
{{ include "affinage.egress.external" (list . "blobs" (list (include "affinage.port" (default "https://" .Values.blobs.endpointUrl)))) }}
- ports:
    - port: 3000
      protocol: TCP
  to:
    {{- $models := list "embedder" }}
    {{- range $name, $pool := include "affinage.generators" . | fromYaml }}
    {{- $models = append $models (printf "generator-%s" $name) }}
    {{- end }}
    {{- include "affinage.peers" (concat (list .) $models) | nindent 4 }}
{{- end -}}

{{/* Prometheus. (list $ PORT). */}}
{{- define "affinage.ingress.monitoring" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.networkPolicy.monitoring }}
- ports:
    - port: {{ index $ 1 }}
      protocol: TCP
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

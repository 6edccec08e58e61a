{{/* Names are cut as in the official chart. */}}
{{- define "stack.name" -}}
{{ printf "%s-kube-prometheus-stack" .Release.Name | trunc 26 | trimSuffix "-" }}
{{- end }}

{{/* Labels of the stack's own objects. */}}
{{- define "stack.labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.Version }}
app.kubernetes.io/part-of: kube-prometheus-stack
chart: kube-prometheus-stack-{{ .Chart.Version }}
release: {{ .Release.Name }}
heritage: {{ .Release.Service }}
{{- end }}

{{/* Labels of what the official chart takes from a chart of its own. Arguments: context, name. */}}
{{- define "stack.exporterLabels" -}}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ .name }}
{{ include "stack.exporterSelector" . }}
release: {{ .context.Release.Name }}
{{- end }}
{{- define "stack.exporterSelector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
{{- end }}

{{/* A selector that finds everything, or what carries the label of the release. Arguments: context, nilUsesHelmValues. */}}
{{- define "stack.selector" -}}
{{ if .nilUsesHelmValues }}{matchLabels: {release: {{ .context.Release.Name | quote }}}}{{ else }}{}{{ end }}
{{- end }}

{{/* The images of vars/versions.yml. */}}
{{- define "stack.images" -}}
alertmanager: quay.io/prometheus/alertmanager:v0.34.0
configReloader: quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1
kubeStateMetrics: registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.20.0
nodeExporter: quay.io/prometheus/node-exporter:v1.12.1-distroless
operator: quay.io/prometheus-operator/prometheus-operator:v0.93.1
prometheus: quay.io/prometheus/prometheus:v3.14.0-distroless
{{- end }}
{{- define "stack.image" -}}
{{ get (include "stack.images" . | fromYaml) .image }}
{{- end }}

{{/* How a container is kept from what it need not do. */}}
{{- define "stack.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "stack.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
seccompProfile: {type: RuntimeDefault}
{{- end }}

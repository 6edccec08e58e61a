{{- $name := printf "%s-alertmanager" (include "stack.name" .) }}
{{- $images := include "stack.images" . | fromYaml }}
{{- define "stack.alertmanagerLabels" }}
{{- include "stack.labels" . }}
app: kube-prometheus-stack-alertmanager
{{- end }}
{{- with .Values.alertmanager.alertmanagerSpec }}
{{- if not .useExistingSecret }}
{{- fail "the lab's chart makes no configuration of its own: set alertmanager.alertmanagerSpec.useExistingSecret to true" }}
{{- end }}
apiVersion: monitoring.coreos.com/v1
kind: Alertmanager
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace }}
  labels: {{- include "stack.alertmanagerLabels" $ | nindent 4 }}
  {{- with $.Values.alertmanager.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  image: {{ $images.alertmanager }}
  imagePullPolicy: IfNotPresent
  version: {{ splitList ":" $images.alertmanager | last }}
  replicas: 1
  externalUrl: http://{{ $name }}.{{ $.Release.Namespace }}:9093
  portName: http-web
  routePrefix: /
  serviceAccountName: {{ $name }}
  retention: 120h
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 2000
    fsGroup: 2000
    seccompProfile: {type: RuntimeDefault}
  alertmanagerConfigSelector: {}
  alertmanagerConfigNamespaceSelector: {}
  {{- range $key := list "alertmanagerConfigMatcherStrategy" "secrets" "storage" "resources" }}
  {{- with get $.Values.alertmanager.alertmanagerSpec $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
---
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.alertmanagerLabels" . | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "stack.alertmanagerLabels" . | nindent 4 }}
    self-monitor: "true"
spec:
  selector:
    app.kubernetes.io/name: alertmanager
    alertmanager: {{ $name }}
  ports:
    - {name: http-web, port: 9093, targetPort: 9093}
    - {name: reloader-web, port: 8080, targetPort: reloader-web}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.alertmanagerLabels" . | nindent 4 }}
spec:
  selector:
    matchLabels:
      app: kube-prometheus-stack-alertmanager
      release: {{ .Release.Name }}
      self-monitor: "true"
  namespaceSelector:
    matchNames: [{{ .Release.Namespace }}]
  endpoints:
    {{- range $port := list "http-web" "reloader-web" }}
    - port: {{ $port }}
      path: /metrics
      {{- with $.Values.alertmanager.serviceMonitor.interval }}
      interval: {{ . }}
      {{- end }}
    {{- end }}

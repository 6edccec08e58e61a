{{- $name := printf "%s-prometheus" (include "stack.name" .) }}
{{- $images := include "stack.images" . | fromYaml }}
{{- define "stack.prometheusLabels" }}
{{- include "stack.labels" . }}
app: kube-prometheus-stack-prometheus
{{- end }}
{{- with .Values.prometheus.prometheusSpec }}
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace }}
  labels: {{- include "stack.prometheusLabels" $ | nindent 4 }}
spec:
  image: {{ $images.prometheus }}
  imagePullPolicy: IfNotPresent
  version: v{{ regexFind "[0-9][0-9.]+" (splitList ":" $images.prometheus | last) }}
  replicas: 1
  externalUrl: http://{{ $name }}.{{ $.Release.Namespace }}:9090
  portName: http-web
  routePrefix: /
  serviceAccountName: {{ $name }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 2000
    fsGroup: 2000
    seccompProfile: {type: RuntimeDefault}
  alerting:
    alertmanagers:
      - name: {{ include "stack.name" $ }}-alertmanager
        namespace: {{ $.Release.Namespace }}
        port: http-web
        pathPrefix: /
        apiVersion: v2
  serviceMonitorNamespaceSelector: {}
  serviceMonitorSelector: {{ include "stack.selector" (dict "context" $ "nilUsesHelmValues" .serviceMonitorSelectorNilUsesHelmValues) }}
  podMonitorNamespaceSelector: {}
  podMonitorSelector: {{ include "stack.selector" (dict "context" $ "nilUsesHelmValues" .podMonitorSelectorNilUsesHelmValues) }}
  probeNamespaceSelector: {}
  probeSelector: {{ include "stack.selector" (dict "context" $ "nilUsesHelmValues" .probeSelectorNilUsesHelmValues) }}
  scrapeConfigNamespaceSelector: {}
  scrapeConfigSelector: {{ include "stack.selector" (dict "context" $ "nilUsesHelmValues" .scrapeConfigSelectorNilUsesHelmValues) }}
  ruleNamespaceSelector: {}
  ruleSelector: {{ include "stack.selector" (dict "context" $ "nilUsesHelmValues" .ruleSelectorNilUsesHelmValues) }}
  {{- range $key := list "scrapeInterval" "evaluationInterval" "retention" "retentionSize" "additionalArgs" "enableFeatures" "resources" }}
  {{- with get $.Values.prometheus.prometheusSpec $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .storageSpec }}
  storage: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .additionalScrapeConfigs }}
  additionalScrapeConfigs:
    name: {{ $name }}-scrape-confg
    key: additional-scrape-configs.yaml
  {{- end }}
---
{{- if .additionalScrapeConfigs }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}-scrape-confg
  namespace: {{ $.Release.Namespace }}
  labels: {{- include "stack.prometheusLabels" $ | nindent 4 }}
stringData:
  additional-scrape-configs.yaml: {{ toYaml .additionalScrapeConfigs | quote }}
---
{{- end }}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.prometheusLabels" . | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- include "stack.prometheusLabels" . | nindent 4 }}
rules:
  - apiGroups: [""]
    resources: [nodes, nodes/metrics, services, endpoints, pods]
    verbs: [get, list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
  - nonResourceURLs: [/metrics, /metrics/cadvisor]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- include "stack.prometheusLabels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "stack.prometheusLabels" . | nindent 4 }}
    self-monitor: "true"
spec:
  selector:
    app.kubernetes.io/name: prometheus
    operator.prometheus.io/name: {{ $name }}
  ports:
    - {name: http-web, port: 9090, targetPort: 9090}
    - {name: reloader-web, port: 8080, targetPort: reloader-web}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.prometheusLabels" . | nindent 4 }}
spec:
  selector:
    matchLabels:
      app: kube-prometheus-stack-prometheus
      release: {{ .Release.Name }}
      self-monitor: "true"
  namespaceSelector:
    matchNames: [{{ .Release.Namespace }}]
  endpoints:
    {{- range $port := list "http-web" "reloader-web" }}
    - port: {{ $port }}
      path: /metrics
      {{- with $.Values.prometheus.serviceMonitor.interval }}
      interval: {{ . }}
      {{- end }}
    {{- end }}

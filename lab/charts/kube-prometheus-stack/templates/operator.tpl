{{- $name := printf "%s-operator" (include "stack.name" .) }}
{{- $images := include "stack.images" . | fromYaml }}
{{- $reloader := .Values.prometheusOperator.prometheusConfigReloader.resources }}
{{- define "stack.operatorLabels" }}
{{- include "stack.labels" . }}
app: kube-prometheus-stack-operator
app.kubernetes.io/name: kube-prometheus-stack-prometheus-operator
app.kubernetes.io/component: prometheus-operator
{{- end }}
{{- if or .Values.prometheusOperator.admissionWebhooks.enabled .Values.prometheusOperator.tls.enabled }}
{{- fail "the lab has no image for webhooks and their certificates: set prometheusOperator.admissionWebhooks.enabled and prometheusOperator.tls.enabled to false" }}
{{- end }}
{{- if .Values.grafana.enabled }}
{{- fail "the lab has no image of Grafana: set grafana.enabled to false" }}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
rules:
  - apiGroups: [monitoring.coreos.com]
    resources: ["*"]
    verbs: ["*"]
  - apiGroups: [apps]
    resources: [statefulsets]
    verbs: ["*"]
  - apiGroups: [""]
    resources: [configmaps, secrets]
    verbs: ["*"]
  - apiGroups: [""]
    resources: [pods]
    verbs: [list, delete]
  - apiGroups: [""]
    resources: [services, services/finalizers, endpoints]
    verbs: [get, create, update, delete]
  - apiGroups: [""]
    resources: [nodes]
    verbs: [list, watch]
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get, list, watch]
  - apiGroups: ["", events.k8s.io]
    resources: [events]
    verbs: [create, patch]
  - apiGroups: [storage.k8s.io]
    resources: [storageclasses]
    verbs: [get]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, create, list, watch, update, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
spec:
  selector:
    app: kube-prometheus-stack-operator
    release: {{ .Release.Name }}
  ports:
    - {name: http, port: 8080, targetPort: http}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
spec:
  replicas: 1
  selector:
    matchLabels:
      app: kube-prometheus-stack-operator
      release: {{ .Release.Name }}
  template:
    metadata:
      labels: {{- include "stack.operatorLabels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ $name }}
      securityContext: {{- include "stack.podSecurity" . | nindent 8 }}
      containers:
        - name: kube-prometheus-stack
          image: {{ $images.operator }}
          imagePullPolicy: IfNotPresent
          args:
            - --kubelet-service=kube-system/{{ include "stack.name" . }}-kubelet
            - --kubelet-endpoints=true
            - --localhost=127.0.0.1
            - --prometheus-config-reloader={{ $images.configReloader }}
            {{- range $kind := list "requests" "limits" }}
            {{- range $resource := list "cpu" "memory" }}
            - --config-reloader-{{ $resource }}-{{ trimSuffix "s" $kind }}={{ dig $kind $resource "0" $reloader }}
            {{- end }}
            {{- end }}
            - --secret-field-selector=type!=kubernetes.io/dockercfg,type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1
            - --web.enable-tls=false
            - --web.listen-address=:8080
          env:
            - {name: GOGC, value: "30"}
          ports:
            - {name: http, containerPort: 8080}
          readinessProbe:
            httpGet: {path: /healthz, port: http}
          livenessProbe:
            httpGet: {path: /healthz, port: http}
          resources: {{- toYaml .Values.prometheusOperator.resources | nindent 12 }}
          securityContext: {{- include "stack.containerSecurity" . | nindent 12 }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.operatorLabels" . | nindent 4 }}
spec:
  selector:
    matchLabels:
      app: kube-prometheus-stack-operator
      release: {{ .Release.Name }}
  namespaceSelector:
    matchNames: [{{ .Release.Namespace }}]
  endpoints:
    - port: http
      honorLabels: true
      {{- with .Values.prometheusOperator.serviceMonitor.interval }}
      interval: {{ . }}
      {{- end }}

package lab;

import java.io.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.*;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * A single-node Elasticsearch from the jars that Maven Central has, without the distribution's own start script.
 * Arguments: HOME [setting=value ...]
 */
public class Launcher {
    public static void main(String[] a) throws Exception {
        long t0 = System.nanoTime();
        Path home = Path.of(a[0]).toAbsolutePath();
        Path mods = home.resolve("modules");
        Files.createDirectories(home.resolve("config"));
        Files.createDirectories(home.resolve("plugins"));
        try (DirectoryStream<Path> ds = Files.newDirectoryStream(mods)) {
            for (Path m : ds) unpackDescriptor(m);
        }
        LogConfigurator.setNodeName("lab-1");
        LogConfigurator.configureWithoutConfig(Settings.builder().put("logger.level", "INFO").build());
        Settings.Builder s = Settings.builder()
            .put("path.home", home.toString()).put("cluster.name", "lab").put("node.name", "lab-1")
            .put("discovery.type", "single-node").put("network.host", "127.0.0.1")
            .put("http.port", "9200").put("transport.port", "9300-9400")
            .put("http.type", "netty4").put("transport.type", "netty4")
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        for (int i = 1; i < a.length; i++) {
            String[] kv = a[i].split("=", 2);
            if (kv.length < 2) throw new IllegalArgumentException("'" + a[i] + "' is no setting; write it like network.host=0.0.0.0");
            s.put(kv[0], kv[1]);
        }
        Environment env = InternalSettingsPreparer.prepareEnvironment(s.build(), Map.of(), home.resolve("config"), () -> "lab-1");
        PluginsLoader loader = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(env.modulesDir()), PluginsLoader.loadPluginsBundles(env.pluginsDir()), Map.of(), false);
        Node node = new Node(env, loader);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { try { node.close(); } catch (IOException e) { } }));
        node.start();
        System.out.println("READY in " + (System.nanoTime() - t0) / 1_000_000 + " ms");
        new CountDownLatch(1).await();
    }

    /** The descriptor ships inside the jar, under META-INF/es-plugins; class path mode: no modulename. */
    static void unpackDescriptor(Path dir) throws Exception {
        Path jar = dir.resolve(Arrays.stream(dir.toFile().list()).filter(n -> n.startsWith(dir.getFileName() + "-")).findFirst().get());
        try (FileSystem zip = FileSystems.newFileSystem(jar)) {
            List<String> out = new ArrayList<>();
            for (String l : Files.readAllLines(zip.getPath("META-INF/es-plugins/" + dir.getFileName() + "/plugin-descriptor.properties")))
                if (!l.startsWith("modulename=")) out.add(l);
            Files.write(dir.resolve("plugin-descriptor.properties"), out);
        }
    }
}

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.LinkedBlockingQueue;
import jdk.jshell.Diag;
import jdk.jshell.EvalException;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;

/** Runs code in a JShell of this very process, see java_kernel.py for what goes over its input and output. */
public final class Shell {
    private static final List<String> IMPORTS = List.of(
            "java.io.*", "java.math.*", "java.net.*", "java.nio.file.*", "java.util.*", "java.util.concurrent.*",
            "java.util.function.*", "java.util.prefs.*", "java.util.regex.*", "java.util.stream.*");

    private static PrintStream channel;
    private static JShell shell;

    public static void main(String[] arguments) throws Exception {
        channel = System.out;
        System.setOut(new PrintStream(new Stream("out"), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new Stream("err"), true, StandardCharsets.UTF_8));
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setIn(InputStream.nullInputStream());
        shell = JShell.builder().executionEngine("local").out(System.out).err(System.err).build();
        for (String name : IMPORTS) shell.eval("import " + name + ";");
        var codes = new LinkedBlockingQueue<String>();
        var runner = new Thread(() -> {
            while (true) {
                try {
                    run(codes.take());
                } catch (InterruptedException error) {
                    // It is stopped through JShell only.
                } catch (Throwable error) {
                    tell("error", error.getClass().getSimpleName(), String.valueOf(error.getMessage()), "");
                } finally {
                    System.out.flush();
                    System.err.flush();
                }
                tell("done");
            }
        }, "runner");
        runner.setDaemon(true);
        runner.start();
        tell("done");
        for (String line; (line = input.readLine()) != null; ) {
            if (line.equals("stop")) shell.stop();
            else codes.add(new String(Base64.getDecoder().decode(line.substring(4)), StandardCharsets.UTF_8));
        }
        System.exit(0);
    }

    /** Snippet by snippet, until one fails. The value of the last one is told when it is an expression. */
    private static void run(String code) {
        SourceCodeAnalysis analysis = shell.sourceCodeAnalysis();
        String value = null;
        for (String rest = code; !rest.isBlank(); ) {
            var found = analysis.analyzeCompletion(rest);
            String source = found.source() == null ? rest : found.source();
            rest = found.remaining() == null ? "" : found.remaining();
            value = null;
            for (SnippetEvent event : shell.eval(source)) {
                if (event.causeSnippet() != null) continue;
                if (event.exception() != null) {
                    fail(event.exception());
                    return;
                }
                if (event.status() == Snippet.Status.REJECTED) {
                    reject(event.snippet());
                    return;
                }
                var kind = event.snippet().subKind();
                if (kind == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND || kind == Snippet.SubKind.VAR_VALUE_SUBKIND
                        || kind == Snippet.SubKind.OTHER_EXPRESSION_SUBKIND) value = event.value();
            }
        }
        if (value != null && !value.isEmpty()) {
            System.out.flush();
            System.err.flush();
            tell("value", value);
        }
    }

    private static void fail(JShellException thrown) {
        String name = thrown instanceof EvalException known ? known.getExceptionClassName() : thrown.getClass().getName();
        var text = new StringBuilder(name + ": " + thrown.getMessage());
        for (StackTraceElement element : thrown.getStackTrace()) text.append("\n    at ").append(element);
        tell("error", name.substring(name.lastIndexOf('.') + 1), String.valueOf(thrown.getMessage()), text.toString());
    }

    private static void reject(Snippet snippet) {
        var text = new StringBuilder();
        for (Diag diag : (Iterable<Diag>) shell.diagnostics(snippet)::iterator) {
            text.append(text.isEmpty() ? "" : "\n").append(diag.getMessage(Locale.ENGLISH));
        }
        tell("error", "CompilationException", text.toString(), text + "\n" + snippet.source());
    }

    private static synchronized void tell(String kind, String... parts) {
        var line = new StringBuilder(kind);
        for (String part : parts) {
            // An empty one would not be seen between the spaces.
            byte[] bytes = (part.isEmpty() ? " " : part).getBytes(StandardCharsets.UTF_8);
            line.append(' ').append(Base64.getEncoder().encodeToString(bytes));
        }
        channel.println(line);
        channel.flush();
    }

    /** What is written goes out at each flush, which `PrintStream` does at the end of each line. */
    private static final class Stream extends OutputStream {
        private static final int FULL = 1 << 16;
        private final String kind;
        private final ByteArrayOutputStream held = new ByteArrayOutputStream();

        Stream(String kind) {
            this.kind = kind;
        }

        @Override
        public synchronized void write(int one) {
            held.write(one);
            if (held.size() >= FULL) flush();
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int length) {
            held.write(bytes, from, length);
            if (held.size() >= FULL) flush();
        }

        @Override
        public synchronized void flush() {
            if (held.size() == 0) return;
            tell(kind, held.toString(StandardCharsets.UTF_8));
            held.reset();
        }
    }
}

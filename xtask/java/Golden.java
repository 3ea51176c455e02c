import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.AbstractCollection;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Writes what Kafka's own code makes of its messages: for every message, version and variant one line of
 * {@code version TAB variant TAB bytes in hex TAB JSON}; and one for the newest version written in that version.
 *
 * <p>Arguments: the folder to write to, then the names of the messages.
 */
public final class Golden {
    private static final ObjectMapper MAPPER =
        JsonMapper.builder().enable(JsonReadFeature.ALLOW_JAVA_COMMENTS).build();

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        for (int i = 1; i < arguments.length; i++) {
            Files.writeString(folder.resolve(arguments[i]), vectors(arguments[i]));
        }
        Files.writeString(folder.resolve("Headers"), headers());
        Files.writeString(folder.resolve("ApiKeys"), apiKeys());
        Files.writeString(folder.resolve("Errors"), errors());
    }

    private static String vectors(String name) throws Exception {
        JsonNode definition;
        try (InputStream in = Golden.class.getResourceAsStream("/common/message/" + name + ".json")) {
            definition = MAPPER.readTree(in);
        }
        StringBuilder lines = new StringBuilder();
        Versions versions = Versions.parse(definition.get("validVersions").asText());
        Versions flexible = Versions.parse(definition.get("flexibleVersions").asText());
        for (short version = versions.low; version <= versions.high; version++) {
            for (Variant variant : Variant.values()) {
                if (variant == Variant.TAGGED && !flexible.contains(version)) {
                    continue;
                }
                lines.append(vector(definition, version, variant)).append('\n');
            }
            lines.append(downgrade(definition, versions.high, version)).append('\n');
        }
        return lines.toString();
    }

    private static String vector(JsonNode definition, short version, Variant variant) throws Exception {
        Message message = new Filler(definition, version, variant).message();
        String hex = HexFormat.of().formatHex(bytes(message, version));
        String json = json(message, version);
        return version + "\t" + variant.name().toLowerCase() + "\t" + hex + "\t" + json;
    }

    /** The newest version's FILLED, written in an older version: "-" if that would lose what may not be lost. */
    private static String downgrade(JsonNode definition, short newest, short version) throws Exception {
        Message message = new Filler(definition, newest, Variant.FILLED).message();
        String hex;
        try {
            hex = HexFormat.of().formatHex(bytes(message, version));
        } catch (UnsupportedVersionException refused) {
            hex = "-";
        }
        return version + "\tdowngrade\t" + hex + "\tnull";
    }

    private static byte[] bytes(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    private static String json(Message message, short version) throws Exception {
        Class<?> converter = Class.forName(message.getClass().getName() + "JsonConverter");
        try {
            Method write = converter.getMethod("write", message.getClass(), short.class, boolean.class);
            return write.invoke(null, message, version, false).toString();
        } catch (NoSuchMethodException withoutRecords) {
            return converter.getMethod("write", message.getClass(), short.class).invoke(null, message, version).toString();
        }
    }

    /** One line for every version of every API: key, version, request header, response header. */
    private static String headers() {
        StringBuilder lines = new StringBuilder();
        for (ApiKeys key : ApiKeys.values()) {
            if (!key.messageType.listeners().contains(ApiMessageType.ListenerType.BROKER)) {
                continue;
            }
            for (short version = key.oldestVersion(); version <= key.latestVersion(); version++) {
                RequestHeaderData request = new RequestHeaderData()
                    .setRequestApiKey(key.id)
                    .setRequestApiVersion(version)
                    .setCorrelationId(1_000 + key.id)
                    .setClientId(version % 2 == 0 ? "client-é" : null);
                ResponseHeaderData response = new ResponseHeaderData().setCorrelationId(1_000 + key.id);
                String requestHex = HexFormat.of().formatHex(bytes(request, key.requestHeaderVersion(version)));
                String responseHex = HexFormat.of().formatHex(bytes(response, key.responseHeaderVersion(version)));
                lines.append(key.id).append('\t').append(version).append('\t').append(requestHex).append('\t')
                    .append(responseHex).append('\n');
            }
        }
        return lines.toString();
    }

    /** One line for every API: key, name. */
    private static String apiKeys() {
        StringBuilder lines = new StringBuilder();
        for (ApiKeys key : ApiKeys.values()) {
            lines.append(key.id).append('\t').append(key.name()).append('\n');
        }
        return lines.toString();
    }

    /** One line for every error: code, name, whether it is retriable. */
    private static String errors() {
        StringBuilder lines = new StringBuilder();
        for (Errors error : Errors.values()) {
            boolean retriable = error.exception() instanceof RetriableException;
            lines.append(error.code()).append('\t').append(error.name()).append('\t').append(retriable).append('\n');
        }
        return lines.toString();
    }

    /** What a message is filled with. */
    private enum Variant {
        /** Nothing: the defaults. */
        DEFAULT,
        /** Every field set to something that is not its default. */
        FILLED,
        /** Null wherever it is allowed. */
        NULLS,
        /** Strings, bytes and arrays without content. */
        EMPTY,
        /** Strings, bytes and the innermost arrays with more than 127 elements, where varints get longer. */
        LONG,
        /** As FILLED, with tagged fields that nobody knows in every struct. */
        TAGGED
    }

    private record Versions(short low, short high) {
        static Versions parse(String text) {
            if (text == null || text.equals("none")) {
                return new Versions((short) 0, (short) -1);
            }
            if (text.endsWith("+")) {
                return new Versions(Short.parseShort(text.substring(0, text.length() - 1)), Short.MAX_VALUE);
            }
            String[] ends = text.split("-");
            return new Versions(Short.parseShort(ends[0]), Short.parseShort(ends[ends.length - 1]));
        }

        static Versions of(JsonNode field, String name) {
            JsonNode text = field.get(name);
            return parse(text == null ? null : text.asText());
        }

        boolean contains(short version) {
            return low <= version && version <= high;
        }
    }

    /** Fills one message. Values come from a counter, so that no two fields have the same by accident. */
    private static final class Filler {
        private final JsonNode definition;
        private final short version;
        private final Variant variant;
        private final String outer;
        private final Map<String, JsonNode> common = new HashMap<>();
        private int counter;
        /** In a long array only the first elements are long themselves. */
        private boolean brief;

        Filler(JsonNode definition, short version, Variant variant) {
            this.definition = definition;
            this.version = version;
            this.variant = variant;
            String name = definition.get("name").asText();
            boolean data = !definition.get("type").asText().startsWith("re");
            this.outer = "org.apache.kafka.common.message." + name + (data ? "" : "Data");
            if (definition.has("commonStructs")) {
                definition.get("commonStructs").forEach(part -> common.put(part.get("name").asText(), part));
            }
        }

        Message message() throws Exception {
            return fill(Class.forName(outer), definition.get("fields"));
        }

        private Message fill(Class<?> type, JsonNode fields) throws Exception {
            Message message = (Message) type.getConstructor().newInstance();
            if (variant == Variant.DEFAULT) {
                return message;
            }
            if (variant == Variant.TAGGED) {
                message.unknownTaggedFields().add(new RawTaggedField(100, new byte[0]));
                message.unknownTaggedFields().add(new RawTaggedField(20_000 + counter, new byte[] {1, 2, 3}));
            }
            for (JsonNode field : fields) {
                if (Versions.of(field, "versions").contains(version)) {
                    set(message, field);
                }
            }
            return message;
        }

        private void set(Message message, JsonNode field) throws Exception {
            Method setter = setter(message.getClass(), field.get("name").asText());
            boolean nullable = Versions.of(field, "nullableVersions").contains(version);
            Object value = variant == Variant.NULLS && nullable
                ? null
                : value(field, field.get("type").asText(), setter.getParameterTypes()[0]);
            setter.invoke(message, value);
        }

        private static Method setter(Class<?> type, String field) {
            String name = "set" + Character.toUpperCase(field.charAt(0)) + field.substring(1);
            for (Method method : type.getMethods()) {
                if (method.getName().equals(name) && method.getParameterCount() == 1) {
                    return method;
                }
            }
            throw new IllegalStateException(type + " has no setter for " + field);
        }

        private Object value(JsonNode field, String type, Class<?> target) throws Exception {
            if (type.startsWith("[]")) {
                return array(field, type.substring(2), target);
            }
            int next = ++counter;
            switch (type) {
                case "bool":
                    return !field.path("default").asText("false").equalsIgnoreCase("true");
                case "int8":
                    return (byte) (next % 100 + 20);
                case "int16":
                    return (short) (next % 2 == 0 ? 1_000 + next : -1_000 - next);
                case "uint16":
                    return 40_000 + next;
                case "int32":
                    return next % 2 == 0 ? 100_000 + next : -100_000 - next;
                case "uint32":
                    return 3_000_000_000L + next;
                case "int64":
                    return next % 2 == 0 ? (1L << 40) + next : -(1L << 40) - next;
                case "float64":
                    return next + 0.5;
                case "uuid":
                    return new Uuid(0x0123456789abcdefL + next, 0xfedcba9876543210L - next);
                case "string":
                    return string(next);
                case "bytes":
                    byte[] bytes = bytes(next, 200);
                    return target == ByteBuffer.class ? ByteBuffer.wrap(bytes) : bytes;
                case "records":
                    return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(next, 1_500)));
                default:
                    return fill(part(type), fields(field, type));
            }
        }

        private String string(int next) {
            return switch (variant) {
                case EMPTY -> "";
                case LONG -> brief ? "é" : "long-" + next + "-".repeat(130);
                default -> "é漢-" + next;
            };
        }

        private byte[] bytes(int next, int length) {
            byte[] bytes = new byte[variant == Variant.EMPTY ? 0 : variant == Variant.LONG && !brief ? length : 5];
            for (int i = 0; i < bytes.length; i++) {
                bytes[i] = (byte) (next * 31 + i * 7);
            }
            return bytes;
        }

        private Object array(JsonNode field, String type, Class<?> target) throws Exception {
            JsonNode fields = fields(field, type);
            @SuppressWarnings("unchecked")
            Collection<Object> elements = AbstractCollection.class.isAssignableFrom(target)
                ? (Collection<Object>) target.getConstructor().newInstance()
                : new ArrayList<>();
            int count = switch (variant) {
                case EMPTY -> 0;
                case LONG -> holdsArrays(fields) ? 1 : 130;
                case NULLS -> 1;
                default -> 2;
            };
            boolean outerBrief = brief;
            for (int i = 0; i < count; i++) {
                brief = outerBrief || i >= 2;
                elements.add(fields == null ? value(field, type, boxed(type)) : fill(part(type), fields));
            }
            brief = outerBrief;
            return elements;
        }

        private boolean holdsArrays(JsonNode fields) {
            if (fields == null) {
                return false;
            }
            for (JsonNode field : fields) {
                String type = field.get("type").asText();
                boolean present = Versions.of(field, "versions").contains(version);
                if (present && (type.startsWith("[]") || holdsArrays(fields(field, type)))) {
                    return true;
                }
            }
            return false;
        }

        private static Class<?> boxed(String type) {
            return type.equals("bytes") ? byte[].class : Object.class;
        }

        /** The fields of a struct type, or null if the type is none. */
        private JsonNode fields(JsonNode field, String type) {
            if (!Character.isUpperCase(type.charAt(0))) {
                return null;
            }
            return common.containsKey(type) ? common.get(type).get("fields") : field.get("fields");
        }

        private Class<?> part(String type) throws ClassNotFoundException {
            return Class.forName(outer + "$" + type);
        }
    }
}

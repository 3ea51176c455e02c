import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own Java client, for records that one side writes and the other reads.
 *
 * <pre>
 * java -cp LIBS Interop.java produce BOOTSTRAP TOPIC [KEY=VALUE ...] < records      prints where each record went
 * java -cp LIBS Interop.java consume BOOTSTRAP TOPIC COUNT [KEY=VALUE ...]          prints the first COUNT records
 * java -cp LIBS Interop.java member BOOTSTRAP TOPIC [KEY=VALUE ...]                 is a member of a group until it
 *                                                                                  is sent a byte; prints its records, and
 *                                                                                  {"owned": [partition, ...]} on a change
 * </pre>
 *
 * A line is a record: {"partition", "offset", "timestamp", "key", "value", "headers": [[key, value], ...]}, with bytes in
 * hexadecimal and null where there are none. To "produce", partition and timestamp may be null: the client chooses.
 * KEY=VALUE are settings of the client.
 */
public class Interop {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HexFormat HEX = HexFormat.of();
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce" -> produce(args[2], settings(args, 3));
            case "consume" -> consume(args[2], Integer.parseInt(args[3]), settings(args, 4));
            case "member" -> member(args[2], settings(args, 3));
            default -> throw new IllegalArgumentException(args[0]);
        }
        OUT.flush();
    }

    private static Properties settings(String[] args, int from) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[1]);
        for (int i = from; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        return settings;
    }

    private static void produce(String topic, Properties settings) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ByteArraySerializer bytes = new ByteArraySerializer();
        List<Future<RecordMetadata>> written = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                written.add(producer.send(record(topic, JSON.readTree(line))));
            }
        }
        for (Future<RecordMetadata> one : written) {
            RecordMetadata metadata = one.get();
            ObjectNode line = JSON.createObjectNode();
            line.put("partition", metadata.partition());
            line.put("offset", metadata.offset());
            line.put("timestamp", metadata.timestamp());
            OUT.println(line);
        }
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, JsonNode line) {
        JsonNode partition = line.path("partition");
        JsonNode timestamp = line.path("timestamp");
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                topic,
                partition.isInt() ? partition.intValue() : null,
                timestamp.isNumber() ? timestamp.longValue() : null,
                bytes(line.path("key")),
                bytes(line.path("value")));
        for (JsonNode header : line.path("headers")) {
            record.headers().add(header.get(0).textValue(), bytes(header.get(1)));
        }
        return record;
    }

    private static void consume(String topic, int count, Properties settings) {
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        long limit = System.nanoTime() + LIMIT.toNanos();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(info -> new TopicPartition(topic, info.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            for (int seen = 0; seen < count; ) {
                if (System.nanoTime() > limit) {
                    throw new IllegalStateException("only " + seen + " of " + count + " records");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    seen++;
                    OUT.println(line(record));
                }
            }
        }
    }

    private static void member(String topic, Properties settings) throws Exception {
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        Set<Integer> owned = null;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            consumer.subscribe(List.of(topic));
            while (System.in.available() == 0) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    OUT.println(line(record));
                }
                Set<Integer> now = new TreeSet<>();
                consumer.assignment().forEach(partition -> now.add(partition.partition()));
                if (!now.equals(owned)) {
                    owned = now;
                    ObjectNode line = JSON.createObjectNode();
                    now.forEach(line.putArray("owned")::add);
                    OUT.println(line);
                }
                OUT.flush();
            }
        }
    }

    private static ObjectNode line(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode line = JSON.createObjectNode();
        line.put("partition", record.partition());
        line.put("offset", record.offset());
        line.put("timestamp", record.timestamp());
        line.put("key", hex(record.key()));
        line.put("value", hex(record.value()));
        ArrayNode headers = line.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(hex(header.value()));
        }
        return line;
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? null : HEX.formatHex(bytes);
    }

    private static byte[] bytes(JsonNode hex) {
        return hex.isTextual() ? HEX.parseHex(hex.textValue()) : null;
    }
}

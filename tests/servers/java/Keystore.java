import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.util.Collections;
import java.util.HexFormat;
import java.util.TreeSet;

/**
 * Reads a keystore as a server does: {@code Keystore.java TYPE FILE ALIAS PASSWORD-FILE KEY-PASSWORD-FILE}.
 *
 * <p>Prints the SHA-256 of each certificate of the alias's chain, and then each entry with its kind. Fails where the key is not
 * that of the leaf.
 */
public final class Keystore {
    public static void main(String[] arguments) throws Exception {
        KeyStore store = KeyStore.getInstance(arguments[0]);
        char[] password = read(arguments[3]);
        try (FileInputStream file = new FileInputStream(arguments[1])) {
            store.load(file, password);
        }
        String alias = arguments[2];
        PrivateKey key = (PrivateKey) store.getKey(alias, read(arguments[4]));
        Certificate[] chain = store.getCertificateChain(alias);
        String algorithm = switch (key.getAlgorithm()) {
            case "RSA" -> "SHA256withRSA";
            case "EC" -> "SHA256withECDSA";
            default -> "Ed25519";
        };
        byte[] text = "signed with the key".getBytes(StandardCharsets.UTF_8);
        Signature signature = Signature.getInstance(algorithm);
        signature.initSign(key);
        signature.update(text);
        byte[] signed = signature.sign();
        signature.initVerify(chain[0]);
        signature.update(text);
        if (!signature.verify(signed)) {
            throw new IllegalStateException("the key is not that of the leaf");
        }
        for (Certificate certificate : chain) {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(certificate.getEncoded());
            System.out.println("chain " + HexFormat.of().formatHex(digest));
        }
        for (String other : new TreeSet<>(Collections.list(store.aliases()))) {
            String kind = store.isCertificateEntry(other) ? "certificate"
                : store.entryInstanceOf(other, KeyStore.SecretKeyEntry.class) ? "secret" : "key";
            System.out.println("entry " + other + " " + kind);
        }
    }

    private static char[] read(String path) throws Exception {
        return Files.readString(Path.of(path)).strip().toCharArray();
    }
}


# Where the key of a certificate lies. Keys of a TPM or of another provider have no file.
function Get-KeyFile {
    param($Certificate)
    Add-Type -AssemblyName System.Core
    $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($Certificate)
    if ($null -eq $key) {
        $key = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::GetECDsaPrivateKey($Certificate)
    }
    if ($null -eq $key) { Stop-Call 'no_key' "the key of $($Certificate.Thumbprint) cannot be opened" }
    if ($null -ne $key.PSObject.Properties['CspKeyContainerInfo']) {
        $name = $key.CspKeyContainerInfo.UniqueKeyContainerName
    } else {
        $name = $key.Key.UniqueName
    }
    foreach ($folder in 'Keys', 'RSA\MachineKeys', 'SystemKeys') {
        $file = Join-Path (Join-Path "$env:ProgramData\Microsoft\Crypto" $folder) $name
        if (Test-Path -LiteralPath $file) { return $file }
    }
    Stop-Call 'unsupported' "the key of $($Certificate.Thumbprint) is in no file, so that nobody can be given access to it"
}

function Get-Sid {
    param([string]$Account)
    if ($Account -match '^S-1-[0-9-]+$') { return $Account }
    try {
        (New-Object System.Security.Principal.NTAccount $Account).Translate([System.Security.Principal.SecurityIdentifier]).Value
    } catch [System.Security.Principal.IdentityNotMappedException] {
        Stop-Call 'missing' "there is no account $Account"
    }
}

# Who was given access, apart from what the folder gives.
function Get-Reader {
    param([string]$File)
    (Get-Acl -LiteralPath $File).GetAccessRules($true, $false, [System.Security.Principal.SecurityIdentifier]) |
        Where-Object { $_.AccessControlType -eq 'Allow' } | ForEach-Object { $_.IdentityReference.Value } | Select-Object -Unique
}

function Grant-Read {
    param([string]$File, [string]$Sid)
    try {
        $acl = Get-Acl -LiteralPath $File
        $identity = New-Object System.Security.Principal.SecurityIdentifier $Sid
        $acl.AddAccessRule((New-Object System.Security.AccessControl.FileSystemAccessRule $identity, 'Read', 'Allow'))
        Set-Acl -LiteralPath $File -AclObject $acl
    } catch {
        # Set-Acl writes the owner, too, which not every session may.
        & "$env:SystemRoot\System32\icacls.exe" $File /grant "*${Sid}:(R)" | Out-Null
        if ($LASTEXITCODE -ne 0) { Stop-Call 'key_access' "icacls could not let $Sid read the key (status $LASTEXITCODE)" }
    }
    if (@(Get-Reader $File) -notcontains $Sid) { Stop-Call 'key_access' "$Sid cannot read the key, although it was let to" }
}

function Add-ToStore {
    param([string]$Store, $Certificate)
    $opened = New-Object System.Security.Cryptography.X509Certificates.X509Store $Store, 'LocalMachine'
    $opened.Open('ReadWrite, OpenExistingOnly')
    try { $opened.Add($Certificate) } finally { $opened.Close() }
}

function Import-Pair {
    param($Arguments)
    # Without MachineKeySet the key would be the user's; without PersistKeySet it would go with this process.
    $flags = 'MachineKeySet, PersistKeySet'
    if ($Arguments.exportable) { $flags += ', Exportable' }
    $content = [Convert]::FromBase64String($Arguments.pfx), $Arguments.password, $flags
    try {
        $certificate = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList $content
    } catch {
        Stop-Call 'pfx' ($_.Exception.GetBaseException().Message)
    }
    if ((Get-Sha256 $certificate.RawData) -ne $Arguments.sha256) { Stop-Call 'pfx' 'the PFX holds another certificate' }
    if (-not $certificate.HasPrivateKey) { Stop-Call 'no_key' 'the PFX gave a certificate without its key' }
    Add-ToStore $Arguments.store $certificate
}

function Invoke-Call {
    param($Arguments)
    Assert-Store $Arguments.store
    $sids = @($Arguments.read_access | ForEach-Object { Get-Sid $_ })
    $certificate = Get-Certificate $Arguments.store $Arguments.thumbprint
    $imported = $null -eq $certificate -or -not $certificate.HasPrivateKey
    if ($imported) {
        Import-Pair $Arguments
        $certificate = Get-Certificate $Arguments.store $Arguments.thumbprint
        if ($null -eq $certificate) { Stop-Call 'no_key' 'the certificate is not in the store after it was put there' }
    }
    foreach ($issuer in @($Arguments.chain)) {
        $bytes = , [Convert]::FromBase64String($issuer)
        $issuer = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList $bytes
        if ($null -eq (Get-Certificate 'CA' $issuer.Thumbprint)) { Add-ToStore 'CA' $issuer }
    }
    $file = Get-KeyFile $certificate
    $previous = $null
    if ($null -ne $Arguments.readers_of) { $previous = Get-Certificate $Arguments.store $Arguments.readers_of }
    if ($null -ne $previous -and $previous.HasPrivateKey) { $sids += @(Get-Reader (Get-KeyFile $previous)) }
    foreach ($sid in @($sids | Select-Object -Unique)) {
        if (@(Get-Reader $file) -notcontains $sid) { Grant-Read $file $sid }
    }
    if ($imported) { $certificate.FriendlyName = $Arguments.friendly_name }
    [ordered]@{ imported = $imported; friendly_name = $certificate.FriendlyName; readers = @(Get-Reader $file) }
}
